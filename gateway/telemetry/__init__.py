"""What is measured and written down about every call. Nothing outside this folder knows prometheus."""
