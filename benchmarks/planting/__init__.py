"""Parts of the planted benchmark of attribution: what is planted, into what, and what is asked to find it."""
