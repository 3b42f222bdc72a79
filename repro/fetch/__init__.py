"""Bringing Twitter-2015 and Twitter-2017 to this machine: annotations, and images from a mirror or an archive."""
