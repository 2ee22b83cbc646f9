"""Networks between the parties of one machine: emulated, and measured."""
