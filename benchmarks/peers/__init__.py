"""What the book's library is measured against; all but one are installed packages."""
