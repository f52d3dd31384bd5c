"""Reference studies: questions that were written down before they were asked, and what came out."""
