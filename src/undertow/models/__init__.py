"""Chat models and embedders behind two protocols: local weights and any hosted provider."""
