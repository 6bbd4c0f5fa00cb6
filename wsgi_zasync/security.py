# SPDX-License-Identifier: ZPL-2.1
"""Who somebody is, and the default answer to what they may do now.

Values and decisions only: no thread, transaction or current user is kept
here. A decision that reads persistent objects is pinned to what it read, so
that it conflicts with a demotion that commits at the same time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import CoroutineType, MemberDescriptorType
from typing import Any, NamedTuple

from .errors import ConfigurationError, InvalidArguments, Unauthorized
from .exposure import expose
from .ports import SecurityPolicy
from .restricted import shown_to_restricted

#: The source of owners known by a cookie only; no table ever matches it.
SESSION_SOURCE = "session"

#: What servers, frameworks and logs call a user who is not logged in.
ANONYMOUS_SPELLINGS = frozenset(
    {
        "",
        "-",
        "None",
        "null",
        "(null)",
        "anonymous",
        "Anonymous",
        "AnonymousUser",
        "Anonymous User",
    }
)

#: Longest id or source of a principal, in characters.
MAX_ID_LENGTH = 255

#: Longest way up the ``__parent__`` chain: more is a loop, or might as well be.
MAX_PARENTS = 100

#: The two principals of Pyramid's ACLs that everybody, or everybody who is
#: logged in, matches.
EVERYONE = "system.Everyone"
AUTHENTICATED = "system.Authenticated"


@shown_to_restricted("id", "source", "title", "roles")
@expose("id", "source", "title", "roles")
@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody, as one identity source names them.

    The owner of a call is the exact pair of ``source`` (text, empty for the
    default source) and ``id`` (text of 1 to 255 characters without controls
    or surrounding blanks).  ``roles`` (a tuple of texts) is what the source
    said at the time; no decision of the default policy trusts it.  ``title``
    is a name for people.

    Raises:
        InvalidArguments: A part is not as said above.
    """

    id: str
    source: str = ""
    roles: tuple[str, ...] = ()
    title: str | None = None

    def __post_init__(self) -> None:
        # Exact str from here on: a subclass could answer differently each time.
        object.__setattr__(self, "id", _checked_text("id", self.id))
        if not self.id:
            raise InvalidArguments("the id of a principal is empty", path="id")
        object.__setattr__(self, "source", _checked_text("source", self.source))
        if ":" in self.source:
            raise InvalidArguments("the source of a principal contains a colon", path="source")
        object.__setattr__(self, "roles", _checked_roles(self.roles))
        if self.title is not None:
            if not isinstance(self.title, str):
                raise InvalidArguments("the title of a principal is not text", path="title")
            object.__setattr__(self, "title", str.__str__(self.title))

    @property
    def owner(self) -> tuple[str, str]:
        """The exact pair (source, id) that owns calls."""
        return (self.source, self.id)

    def evolve(self, **changes: Any) -> Principal:
        """A copy with other values, checked like a new one."""
        return replace(self, **changes)


def _checked_text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidArguments(f"the {what} of a principal is not text", path=what)
    text = str.__str__(value)
    if len(text) > MAX_ID_LENGTH:
        raise InvalidArguments(
            f"the {what} of a principal is longer than {MAX_ID_LENGTH} characters", path=what
        )
    if text != text.strip():
        raise InvalidArguments(f"the {what} of a principal is surrounded by blanks", path=what)
    is_plain = text.isascii() and text.isprintable()
    if not is_plain and any(unicodedata.category(each) in _REFUSED_CATEGORIES for each in text):
        raise InvalidArguments(f"the {what} of a principal contains a control", path=what)
    return text


#: Controls, surrogates, and line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _checked_roles(roles: Any) -> tuple[str, ...]:
    if isinstance(roles, (str, bytes)) or not isinstance(roles, Iterable):
        raise InvalidArguments("the roles of a principal are a tuple of texts", path="roles")
    found = tuple(roles)
    if not all(isinstance(role, str) for role in found):
        raise InvalidArguments("the roles of a principal are a tuple of texts", path="roles")
    return tuple(str.__str__(role) for role in found)


class AnotherPrincipal(Unauthorized):
    """The policy mistakes one for another: nothing is allowed, but nobody is gone either."""


def principal_now(policy: SecurityPolicy, principal: Principal, root: Any) -> Principal:
    """The principal with the authority of this moment, as the policy gives it.

    Raises:
        Unauthorized: The principal is gone or disabled.
        AnotherPrincipal: The policy gave somebody else, or nobody.
        Exception: Whatever else the policy raises; it could not decide.
    """
    found = policy.principal_now(principal, root)
    if getattr(found, "owner", None) != principal.owner:
        raise AnotherPrincipal(
            f"the policy gave another principal for {principal.owner!r}: principal_now returns "
            "the one that it was given, with the roles of now, or raises Unauthorized"
        )
    return found


def decided(answer: Any) -> bool:
    """What a policy has answered, as yes or no.

    Raises:
        ConfigurationError: It is to be awaited, as what an ``async def`` returns: of that nobody
            knows what it will be, and it would count as yes.
    """
    if isinstance(answer, Awaitable):
        if isinstance(answer, CoroutineType):
            answer.close()
        raise ConfigurationError(
            "the policy answered with something to be awaited: it must say yes or no at once, so "
            "write def, not async def"
        )
    return bool(answer)


class _Grant(NamedTuple):
    """One parsed entry: a role's name, or exactly one owner."""

    role: str | None = None
    owner: tuple[str, str] | None = None


def _parse_grant(text: str) -> _Grant | None:
    """``role:NAME``, ``user:ID`` or ``user:SOURCE:ID``; ``None`` for all else."""
    kind, colon, rest = text.partition(":")
    if not colon or not rest:
        return None
    if kind == "role":
        return _Grant(role=rest)
    if kind == "user":
        return _parse_owner(rest)
    return None


def _parse_owner(text: str) -> _Grant | None:
    source, colon, identifier = text.partition(":")
    if not colon:
        return _Grant(owner=("", text))
    return _Grant(owner=(source, identifier)) if identifier else None


Roles = Mapping[str, "str | Iterable[str]"]


class DefaultPolicy:
    """Roles and permissions from two tables, and ``__acl__`` lists of objects.

    Args:
        roles: Who has which roles: ``{"alice": "editor", "members:bob":
            "editor, reviewer"}``. A key without a colon is an id of the
            default source. The mapping is read at each decision, so that a
            change holds at once; a callable is called for it each time.
        permissions: Which permission is granted to whom:
            ``{"edit": "role:editor user:alice user:members:bob"}``, parsed
            once, here.
        root_path: Which object expressions see as ``root``, as a path of
            items from the database's root (``app/public``; ``/`` is the root
            itself). Without it they see none.

    An ``__acl__`` of the object or one of its parents, nearest first, decides
    before the table, denials included. Its entries are Pyramid's tuples,
    with the same ``role:`` and ``user:`` texts for whom, or Pyramid's
    Everyone and Authenticated. An entry of an unknown kind allows nobody and
    denies everybody.

    Raises:
        ConfigurationError: An entry of ``permissions`` cannot be understood.
    """

    #: No current user is kept anywhere, so callbacks of several owners may share a transaction.
    stateless = True

    def __init__(
        self,
        roles: Roles | Callable[[], Roles] | None = None,
        permissions: Mapping[str, str | Iterable[str]] | None = None,
        root_path: str | None = None,
    ) -> None:
        self._roles = roles if roles is not None else {}
        self._permissions = {
            permission: frozenset(_table_grant(permission, text) for text in _words(grants))
            for permission, grants in (permissions or {}).items()
        }
        self._root_path = root_path

    def principal_now(self, principal: Principal, root: Any) -> Principal:
        """The principal with the roles that the table gives now.

        This policy knows no directory of users, so that nobody is ever gone.
        """
        roles = self._roles_of(principal)
        return principal if roles == principal.roles else principal.evolve(roles=roles)

    def root_for(self, principal: Principal, root: Any) -> Any:
        """The object at ``root_path``, or ``None`` if none is configured.

        Raises:
            ConfigurationError: There is no object at that path.
        """
        if self._root_path is None:
            return None
        found = root
        for name in filter(None, self._root_path.split("/")):
            try:
                found = found[name]
            except (LookupError, TypeError) as missing:
                raise ConfigurationError(
                    f"root = {self._root_path}: there is no {name!r}"
                ) from missing
        return found

    def allows(self, principal: Any, permission: str, object: Any) -> bool:
        """Whether the principal has the permission on this object, now."""
        holder = _Holder(principal, self._roles_of(principal))
        place = object
        for _ in range(MAX_PARENTS + 1):
            _pin(place)
            acl = _found(place, "__acl__")
            if acl is not None:
                decision = _decide(acl() if callable(acl) else acl, holder, permission)
                if decision is not None:
                    return decision
            place = _found(place, "__parent__")
            if place is None:
                grants = self._permissions.get(permission, ())
                return any(holder.matches(grant) for grant in grants)
        return False

    def _roles_of(self, principal: Any) -> tuple[str, ...]:
        if not isinstance(principal, Principal) or principal.source == SESSION_SOURCE:
            return ()
        table = self._roles() if callable(self._roles) else self._roles
        if not table:
            return ()
        source, identifier = principal.owner
        entries = [table.get(f"{source}:{identifier}", ())]
        if not source and ":" not in identifier:
            entries.append(table.get(identifier, ()))
        return tuple(role for entry in entries for role in _words(entry))


class _Holder:
    """A principal (or nobody) with the roles of this moment."""

    __slots__ = ("owner", "roles")

    def __init__(self, principal: Any, roles: tuple[str, ...]) -> None:
        known = isinstance(principal, Principal) and principal.source != SESSION_SOURCE
        self.owner = principal.owner if known else None
        self.roles = roles

    def matches(self, grant: _Grant) -> bool:
        """Whether a typed entry means this principal."""
        if grant.role is not None:
            return grant.role in self.roles
        return self.owner is not None and grant.owner == self.owner


def _words(entry: str | Iterable[str]) -> list[str]:
    return entry.replace(",", " ").split() if isinstance(entry, str) else list(entry)


def _table_grant(permission: str, text: str) -> _Grant:
    grant = _parse_grant(text)
    if grant is None:
        raise ConfigurationError(
            f"[permissions] {permission}: {text!r} is neither role:NAME nor user:ID "
            "nor user:SOURCE:ID"
        )
    return grant


def _found(place: Any, name: str) -> Any:
    """An attribute, or ``None`` if there is none.

    Raises:
        AttributeError: There is one that fails. A list that cannot be read must not be taken
            for none, which could allow what it denies.
    """
    try:
        return getattr(place, name)
    except AttributeError:
        declared = getattr(type(place), name, None)
        if declared is None or isinstance(declared, MemberDescriptorType):
            return None
        raise


def _decide(acl: Any, holder: _Holder, permission: str) -> bool | None:
    """What an access control list says, first match first; ``None`` if nothing."""
    _pin(acl)
    for entry in acl:
        action, who, permissions = entry
        if isinstance(permissions, str):
            permissions = (permissions,)
        if permission in permissions and _meant(holder, who, action == "Allow"):
            return bool(action == "Allow")
    return None


def _meant(holder: _Holder, who: Any, allowing: bool) -> bool:
    if who == EVERYONE:
        return True
    if who == AUTHENTICATED:
        return holder.owner is not None
    grant = _parse_grant(who) if isinstance(who, str) else None
    # Whom we do not understand gets nothing, and is spared no denial.
    return holder.matches(grant) if grant is not None else not allowing


def _pin(value: Any) -> None:
    """Make the transaction conflict if this persistent object changes meanwhile.

    ``readCurrent`` on an object that was never loaded does nothing, hence the
    activation first. New objects have no database yet.
    """
    if not hasattr(type(value), "_p_activate"):
        return
    value._p_activate()
    jar = value._p_jar
    if jar is not None and value._p_oid is not None:
        jar.readCurrent(value)
