"""`frozen`: attrs' decorator for the values that are made many times for each job, with a constructor that costs less.

attrs fills a frozen object by one call of object.__setattr__ for each field, which is most of what a value costs. Here
a constructor fills an object of a twin class, which has the same slots and no guard, by plain assignments, and then
gives it its own class. Everything else is attrs': equality, hash, repr, fields, evolve, FrozenInstanceError.

A class that wants more of its constructor (validators, converters, factories, inherited fields) uses attrs' own.
Values have no slot for weak references: nobody refers to them weakly, and a queue holds many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrs import frozen as frozen
else:
    from attrs import NOTHING, Attribute, Factory, fields
    from attrs import frozen as attrs_frozen

    def frozen(cls: type) -> type:
        """As attrs.frozen without options. Raises TypeError for a class that needs attrs' own constructor."""
        value = attrs_frozen(cls, init=False, weakref_slot=False, getstate_setstate=False)
        names = value.__slots__
        if names != tuple(field.name for field in fields(value) if _is_plain(field)):
            raise TypeError(f"{cls.__name__} needs the constructor of attrs.frozen")
        value.__new__ = _constructor(value, type(cls.__name__, value.__bases__, {"__slots__": names}))
        value.__reduce__ = lambda self: (value, tuple([getattr(self, name) for name in names]))
        return value

    def _is_plain(field: Attribute[Any]) -> bool:
        plain = field.init and not (field.kw_only or field.validator or field.converter)
        return plain and field.alias == field.name and not isinstance(field.default, Factory)

    def _constructor(value: type, twin: type) -> Any:
        defaults = {field.name: field.default for field in fields(value)}
        names = [name if default is NOTHING else f"{name}=_defaults[{name!r}]" for name, default in defaults.items()]
        lines = [
            f"def __new__({', '.join(['_class', *names])}):",
            "    _self = _new(_twin)",
            *[f"    _self.{name} = {name}" for name in defaults],
            "    _self.__class__ = _class",
            "    return _self",
        ]
        known: dict[str, Any] = {"_new": object.__new__, "_twin": twin, "_defaults": defaults}
        exec(compile("\n".join(lines), f"<constructor of {value.__name__}>", "exec"), known)
        constructor = known["__new__"]
        constructor.__qualname__ = f"{value.__qualname__}.__new__"
        constructor.__module__ = value.__module__
        return staticmethod(constructor)
