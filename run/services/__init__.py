"""Many services: their file, their lives, and what is done for them. Source: contract, "Many services"."""
