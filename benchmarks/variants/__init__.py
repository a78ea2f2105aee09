"""What is measured: each function runs alone in a fresh process and answers with what it cost."""
