"""The whole loop on the built-in lab, with neither key nor network."""
