"""What is true of a query or a response, as sentences: extract, embed, cluster."""
