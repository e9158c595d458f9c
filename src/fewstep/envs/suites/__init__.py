"""Environments of the suites beyond Gymnasium's own, a file each; ``fewstep.suites`` lists their tasks."""
