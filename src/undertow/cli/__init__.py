"""The command line: one file a verb over one public function each."""
