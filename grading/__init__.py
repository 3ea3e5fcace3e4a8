"""The exchange, the isolated grader, and the checks that test cells import.

``grading.checks``, ``grading.exchange.plugin`` and ``grading.exchange.client`` go into the notebook image and import nothing
of the server.
"""
