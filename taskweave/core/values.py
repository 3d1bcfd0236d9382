"""`frozen`: attrs' decorator for the values that are made many times for each job: cheaper to make, and to import.

attrs fills a frozen object by one call of object.__setattr__ for each field, which is most of what a value costs. Here
a twin class, which has the same slots and no guard, is filled by plain assignments, and the object is then given its
own class. The twin is made with the first value, since most programs use few of the classes that they import; for the
same reason equality, hash and repr are functions over the fields, not code for each class. Everything else is attrs':
fields, evolve, FrozenInstanceError.

A class that wants more of its constructor (validators, converters, factories, inherited fields) uses attrs' own.
Values have no slot for weak references: nobody refers to them weakly, and a queue holds many. Rejected: a constructor
compiled for each class, which saves another fifth, but evaluates text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import frozen as frozen
else:
    from operator import attrgetter

    from attrs import Factory, field, fields, make_class
    from attrs import frozen as attrs_frozen

    _BARE = {"eq": False, "repr": False, "weakref_slot": False, "getstate_setstate": False}

    def frozen(cls: type) -> type:
        """As attrs.frozen without options. Raises TypeError for a class that needs attrs' own constructor."""
        value = attrs_frozen(cls, init=False, **_BARE)
        names = value.__slots__
        if names != tuple(each.name for each in fields(value) if _is_plain(each)):
            raise TypeError(f"{cls.__name__} needs the constructor of attrs.frozen")
        _compare(value, attrgetter(*names) if names else lambda self: ())

        def first(_class, /, *args, **kwargs):
            value.__new__ = _constructor(value)
            return value.__new__(_class, *args, **kwargs)

        value.__new__ = first
        return value

    def _is_plain(each):
        plain = each.init and each.eq and each.repr and each.alias == each.name
        return plain and not (each.kw_only or each.validator or each.converter or isinstance(each.default, Factory))

    def _compare(value, key):
        names = value.__slots__
        value.__eq__ = lambda self, other: key(self) == key(other) if other.__class__ is value else NotImplemented
        value.__hash__ = lambda self: hash(key(self))
        value.__reduce__ = lambda self: (value, tuple([getattr(self, name) for name in names]))
        value.__repr__ = lambda self: (
            f"{value.__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in names])})"
        )

    def _constructor(value):
        bare = {each.name: field(default=each.default) for each in fields(value)}
        twin = make_class(value.__name__, bare, value.__bases__, slots=True, **_BARE)

        def construct(_class, /, *args, **kwargs):
            self = twin(*args, **kwargs)
            self.__class__ = _class
            return self

        return construct
