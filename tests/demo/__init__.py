"""The product's main job on a bare machine, as a show (`make demo`) and, in assertions, as `tests/e2e`."""
