"""A real KEDA scales a backend: by its scale subresource, from what the gateways tell."""
