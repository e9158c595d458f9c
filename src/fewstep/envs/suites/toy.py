"""fewstep's own toys, which register themselves."""

from fewstep.envs import toys
from fewstep.envs.suites.suite import Suite

SUITE = Suite(name="toy", title="fewstep's toys", tasks=toys.NOTES)
