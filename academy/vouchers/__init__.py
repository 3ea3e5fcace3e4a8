"""Vouchers: GPU-hours granted to people, teams and courses, and the ledger of what became of them."""
