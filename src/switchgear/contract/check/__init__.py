"""What changed between two versions of a contract, whom it breaks, and the safe edit."""
