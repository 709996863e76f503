"""Layer 0. Folders of work named by content, who does them and when."""
