//! End-to-end tests of ketch, one file a topic in `tests/`. Every test ends with the leak check of its world.
