"""The commands that Python code sends: by `.command(…)`, by a function that forwards one, and by PyMongo's methods.

A command is a document whose first key is its name, or the name itself.  It is followed through variables, constants,
functions that return it and functions that take it as an argument.  An argument that cannot be followed is an
`Unfollowed`, never silence.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from .syntax import Module, called_name, strings
from .use import Kind, Use

# What PyMongo 4 sends for each method (pymongo/collection.py, database.py, mongo_client.py, client_session.py).
CURSOR = ("getMore", "killCursors")
METHODS = {
    "find_one": ("find",),
    "insert_one": ("insert",), "insert_many": ("insert",),
    "update_one": ("update",), "update_many": ("update",), "replace_one": ("update",),
    "delete_one": ("delete",), "delete_many": ("delete",),
    "find_one_and_update": ("findAndModify",), "find_one_and_replace": ("findAndModify",),
    "find_one_and_delete": ("findAndModify",),
    "count_documents": ("aggregate",), "estimated_document_count": ("count",), "distinct": ("distinct",),
    "aggregate": ("aggregate", *CURSOR), "watch": ("aggregate", *CURSOR),
    "create_index": ("createIndexes",), "create_indexes": ("createIndexes",), "drop_index": ("dropIndexes",),
    "list_indexes": ("listIndexes",), "index_information": ("listIndexes",),
    "list_collections": ("listCollections",), "list_collection_names": ("listCollections",),
    "list_databases": ("listDatabases",), "list_database_names": ("listDatabases",),
    "create_collection": ("listCollections", "create"), "drop_collection": ("drop",),
    "drop_database": ("dropDatabase",),
    "server_info": ("buildInfo",),
    "start_transaction": ("commitTransaction", "abortTransaction"),
    "with_transaction": ("commitTransaction", "abortTransaction"),
    "bulk_write": ("insert", "update", "delete"),
    "MongoClient": ("hello", "saslStart", "saslContinue", "endSessions"),
    "AsyncMongoClient": ("hello", "saslStart", "saslContinue", "endSessions"),
}  # fmt: skip


@dataclass(frozen=True)
class Unfollowed:
    """A command that was not found out: where, and the expression."""

    path: str
    line: int
    expression: str


class Commands:
    """The commands of all modules together, because functions that forward one are called from other modules."""

    def __init__(self, modules: list[Module]) -> None:
        self.modules = [module for module in modules if "pymongo" in module.text or "command" in module.text]
        self.unfollowed: list[Unfollowed] = []
        self._forwarders: dict[str, set[int | str]] = {"command": {0}}
        """Functions by name with the argument, by place and by name, that is a command."""

    def uses(self) -> Iterator[Use]:
        """Every use, after the forwarding functions are known."""
        found: set[Use] = set()
        while True:
            before = {name: set(places) for name, places in self._forwarders.items()}
            self.unfollowed = []
            for module in self.modules:
                found |= set(self._sent(module))
            if before == self._forwarders:
                break
        for module in self.modules:
            if "pymongo" in module.text or "Database" in module.text:
                found |= set(_by_methods(module))
        yield from found

    def _sent(self, module: Module) -> Iterator[Use]:
        for call in module.calls():
            name = called_name(call) or ""
            if name not in self._forwarders or id(call) in module.decorators or not (call.args or call.keywords):
                continue
            before = len(self.unfollowed)
            for argument in self._arguments(name, call):
                so_far = len(self.unfollowed)
                names = self._names(argument, call, module, seen=set())
                yield from (Use(Kind.COMMAND, each, module.path, call.lineno) for each in names)
                if names or len(self.unfollowed) == so_far:
                    # What came before it was an address, as in `targets.command(address, command)`.
                    del self.unfollowed[before:]
                    break

    def _arguments(self, name: str, call: ast.Call) -> list[ast.expr]:
        """The arguments that may be the command, in the order in which they are tried."""
        if name == "command":
            return call.args[:2]
        places = self._forwarders[name]
        arguments = [call.args[place] for place in places if isinstance(place, int) and place < len(call.args)]
        return arguments + [keyword.value for keyword in call.keywords if keyword.arg in places]

    def _names(self, expression: ast.expr, at: ast.AST, module: Module, seen: set[int]) -> set[str]:
        """The names of the commands that an expression may be."""
        if id(expression) in seen:
            return set()
        seen.add(id(expression))

        def of(*expressions: ast.expr) -> set[str]:
            return set().union(*(self._names(one, at, module, seen) for one in expressions))

        match expression:
            case ast.Constant(value=str(name)):
                return {name}
            case ast.Dict(keys=[key, *_]) if key is not None:
                return set(strings(key))
            case ast.Dict(keys=[None, *_], values=[value, *_]):
                return of(value)
            case ast.IfExp(body=body, orelse=orelse):
                return of(body, orelse)
            case ast.BinOp(left=left):
                return of(left)
            case ast.Call(func=ast.Name(id="dict" | "SON"), args=[first, *_]):
                return of(first)
            case ast.Call() if returned := module.returns(called_name(expression) or ""):
                return of(*returned)
            case ast.Name(id=name):
                return self._variable(name, expression, at, module, seen)
        self.unfollowed.append(Unfollowed(module.path, expression.lineno, ast.unparse(expression)))
        return set()

    def _variable(self, name: str, expression: ast.Name, at: ast.AST, module: Module, seen: set[int]) -> set[str]:
        function = module.function_around(at)
        values = module.assigned(name, function)
        if values:
            return set().union(*(self._names(value, at, module, seen) for value in values))
        if function is not None and name in (parameters := _parameters(function)):
            # Whoever calls this function says what the command is.
            place = parameters.index(name)
            self._forwarders.setdefault(function.name, set()).update({place, name})
            return set()
        if imported := module.imported(name):
            return set().union(*(self._names(value, at, imported[0], seen) for value in imported[1]))
        self.unfollowed.append(Unfollowed(module.path, expression.lineno, name))
        return set()


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def _by_methods(module: Module) -> Iterator[Use]:
    for call in module.calls():
        name = called_name(call) or ""
        sent = METHODS.get(name, ())
        if name == "find" and _is_query(call):
            sent = ("find", *CURSOR)
        for command in sent:
            yield Use(Kind.COMMAND, command, module.path, call.lineno)


def _is_query(call: ast.Call) -> bool:
    """Not a text's `find`, which is given a text."""
    return not (call.args and isinstance(call.args[0], ast.Constant))
