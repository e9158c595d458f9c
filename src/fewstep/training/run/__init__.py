"""One recorded run: loop, progress, signals, resume, and what to do when numbers stop being finite."""
