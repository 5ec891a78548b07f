"""The command line. Its first line finds out whether the package around it is ours."""

from taskito.config.distribution import refuse_other

refuse_other()
