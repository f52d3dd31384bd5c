"""Does attention attach to the networks that people have? Every one that their libraries list, checked and recorded."""
