"""How far to trust a map: what a network loses without what it marks, whether it was learned, whether it is a constant."""
