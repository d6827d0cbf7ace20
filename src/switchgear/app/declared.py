"""What a service declares, read off its module: nothing has to run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from switchgear.app.reaction import Reaction, targets
from switchgear.contract.event import EventContract, event_of
from switchgear.contract.service import ServiceContract, contracts_of
from switchgear.events.progress import in_seconds
from switchgear.saga.choreography.declared import (
    Declared,
    EventDeclared,
    HandlerDeclared,
    OperationDeclared,
    SagaDeclared,
    StepDeclared,
    SubscriptionDeclared,
    UndoneDeclared,
)

if TYPE_CHECKING:
    from switchgear.app.service import Service
    from switchgear.saga.definition import Saga

__all__ = ["declared"]


def declared(service: Service) -> Declared:
    """Return what `service` declares, in an order that does not depend on that of its module."""
    published = service.published
    return Declared(
        service=service.name,
        version=service.version,
        serves=_operations(one for found, _ in service.handlers for one in contracts_of(found)),
        calls=_operations(call.contract for call in service.declared_calls),
        events=_events(service),
        publishes=None if published is None else _types(published),
        subscriptions=_subscriptions(service.reactions),
        sagas=tuple(
            sorted(map(_saga, service.declared_sagas), key=lambda saga: (saga.name, saga.version))
        ),
    )


def _types(events: Iterable[type]) -> tuple[str, ...]:
    return tuple(sorted({event_of(one).type for one in events}))


def _operations(contracts: Iterable[ServiceContract]) -> tuple[OperationDeclared, ...]:
    found = {
        operation.full_name: OperationDeclared(
            operation.full_name, str(operation.pattern), operation.keyed
        )
        for contract in contracts
        for operation in contract.operations.values()
    }
    return tuple(found[name] for name in sorted(found))


def _events(service: Service) -> tuple[EventDeclared, ...]:
    contracts = {event_of(one) for one in service.published or ()}
    for reaction in service.reactions:
        contracts.add(reaction.contract)
        contracts.update(event_of(one) for one in reaction.emits or ())
        contracts.update(event_of(one) for one in reaction.undoes if isinstance(one, type))
    return tuple(
        EventDeclared(one.type, one.topic, one.key, one.after)
        for one in sorted(contracts, key=lambda contract: contract.type)
    )


def _subscriptions(reactions: list[Reaction]) -> tuple[SubscriptionDeclared, ...]:
    names = sorted({reaction.name for reaction in reactions})
    return tuple(
        _subscription(name, [one for one in reactions if one.name == name], reactions)
        for name in names
    )


def _subscription(
    name: str, own: list[Reaction], reactions: list[Reaction]
) -> SubscriptionDeclared:
    one = own[0]  # those of one name share their settings
    return SubscriptionDeclared(
        name,
        one.on_failure,
        one.attempts,
        one.backoff,
        one.concurrency,
        tuple(
            sorted(
                (_handler(each, reactions) for each in own),
                key=lambda handler: (handler.event, handler.handler),
            )
        ),
        None if one.fresh_within is None else in_seconds(one.fresh_within),
        one.from_start,
    )


def _handler(reaction: Reaction, reactions: list[Reaction]) -> HandlerDeclared:
    return HandlerDeclared(
        handler=reaction.function.__name__,
        event=reaction.contract.type,
        emits=None if reaction.emits is None else _types(reaction.emits),
        undoes=tuple(_undone(target) for target in targets(reaction, reactions)),
        unordered=reaction.unordered,
        runbook=reaction.runbook,
    )


def _undone(target: Reaction | EventContract) -> UndoneDeclared:
    if isinstance(target, Reaction):
        return UndoneDeclared(target.contract.type, target.function.__name__)
    return UndoneDeclared(target.type)


def _saga(saga: Saga) -> SagaDeclared:
    return SagaDeclared(
        saga.name,
        saga.version,
        saga.plan.fingerprint,
        tuple(
            StepDeclared(step.name, str(step.kind), step.undo, step.undo_runbook or step.runbook)
            for step in saga.plan.steps
        ),
    )
