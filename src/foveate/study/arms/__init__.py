"""What is compared with the network as it is: mechanisms, and the controls that tell what their gain is owed to."""
