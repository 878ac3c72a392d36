"""Static pages of a run: typed contexts, templates, charts as inline SVG."""
