"""What scripts/build_apk is made of: standard library only, so that it runs before scripts/setup."""
