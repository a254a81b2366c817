"""One module for each group of commands; heavy imports live inside the commands that need them."""
