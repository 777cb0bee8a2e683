"""One command: started, waited for with all that descends from it, and shut down. Source: contract, "One command"."""
