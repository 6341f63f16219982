"""A seeded explorer that plays broker, producers, scorers and every process around the pure core.

A world has partitions of three logs each (raw, scores, decisions; offsets with holes), an owner, perhaps a standby,
and owners that stood still (zombies): one that is followed by another while it sleeps, wakes, and writes what it had
queued. Members read in batches of any size, in any order of topics, die anywhere, and start again from their last
commit. What was promised is judged by the law alone, from the logs.
"""
