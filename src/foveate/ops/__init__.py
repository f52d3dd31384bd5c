"""What the hardware does: pure functions on tensors that know no papers. One op a file."""
