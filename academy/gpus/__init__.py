"""GPUs shared by many people: what there is, who holds what, who waits, what is booked."""

LABEL = "academyhub.lease"  # of a container: the lease by which it has its GPU
