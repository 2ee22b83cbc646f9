"""How workloads are measured: parties, links, emulated networks, SPU logs."""
