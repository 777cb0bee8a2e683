"""Many services: what their file and their command lines say, as plain values. Source: the contract's part 2."""
