"""A door before the simulated fleet: sidecars that judge, runs that are counted, and runs with one verdict turned round."""
