"""Many services: what their file and their command lines say, as plain values. Source: contract, "Many services"."""
