"""Half an hour of bursts on a whole cluster: the number of pods follows them, and nobody is lost."""
