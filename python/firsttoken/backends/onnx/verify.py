def verify(path,methods): pass
