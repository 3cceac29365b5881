"""Figures of the DDIM paper (Song, Meng & Ermon, ICLR 2021, arXiv 2010.02502), to set beside what is measured here."""

STEPS = (10, 20, 50, 100, 1000)

TABLE_1 = {
    way: dict(zip(STEPS, row, strict=True))
    for way, row in {
        "eta=0": (13.36, 6.84, 4.67, 4.16, 4.04),
        "eta=0.2": (14.04, 7.11, 4.77, 4.25, 4.09),
        "eta=0.5": (16.66, 8.35, 5.25, 4.46, 4.29),
        "eta=1": (41.07, 18.36, 8.01, 5.78, 4.73),
        "sigma_hat": (367.43, 133.37, 32.72, 9.99, 3.17),
    }.items()
}
"""Way to sample -> S -> FID on CIFAR-10 (50,000 samples, Inception features, quadratic tau)."""

TABLE_2 = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009, 200: 0.0004, 500: 0.0001, 1000: 0.0001}
"""S -> error of encoding and decoding CIFAR-10's test set: mean square a pixel value, pixels in [0, 1]."""
