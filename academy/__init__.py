"""What the hub runs: settings, people, spawner, GPUs, vouchers, web pages, the ``academy`` command."""

__version__ = "0.1.0"
