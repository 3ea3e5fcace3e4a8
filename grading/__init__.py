"""The exchange, the isolated grader, and the checks that test cells import.

``grading.checks`` and of ``grading.exchange`` ``lab``, ``plugin``, ``client`` and ``archive`` go into the notebook image and
import nothing of the server.
"""
