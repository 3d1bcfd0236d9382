"""Where jobs live. Each store is imported by itself, so that a program loads only the drivers that it uses."""
