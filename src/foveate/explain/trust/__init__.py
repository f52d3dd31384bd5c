"""How far to trust a map: does the answer hang on what it marks, was it learned, is it more than a constant."""
