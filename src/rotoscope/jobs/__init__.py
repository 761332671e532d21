"""Jobs: one tool call as the user sees it, remembered in the ledger and driven through its stages."""
