"""Many points: architectures x overrides x networks x recipes x patterns x batches, on any executor, resumable.

What a sweep's folder holds is `nmsim.result.points`.
"""
