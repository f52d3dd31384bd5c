"""What several test files share; none of it is an oracle."""
