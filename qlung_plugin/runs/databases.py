"""How results name the database that they are of.

Authors
 * qlung_plugin contributors
"""


def name_database(data):
    """The name of a database, and which part of it was there.

    Arguments
    ---------
    data : dict
        ``database``, and ``subset`` unless it is complete.

    Returns
    -------
    str

    Example
    -------
    >>> name = name_database({"database": "ICBHI 2017", "subset": "8 of 920"})
    >>> name, complete_database(name)
    ('ICBHI 2017, subset (8 of 920)', 'ICBHI 2017')
    """
    subset = data.get("subset")  # a model's own training may not say
    return data["database"] + (f", subset ({subset})" if subset else "")


def complete_database(name):
    """The name of a database without its subset, from :func:`name_database`."""
    return name.split(",")[0]
