from http import HTTPStatus
from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient, Client
from ...models.problem import Problem
from ...models.task_response import TaskResponse
from ...models.update_request import UpdateRequest
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    body: UpdateRequest,
    idempotency_key: str | Unset = UNSET,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if not isinstance(idempotency_key, Unset):
        headers["Idempotency-Key"] = idempotency_key

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/update",
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Problem | TaskResponse | None:
    if response.status_code == 200:
        response_200 = TaskResponse.from_dict(response.json())

        return response_200

    if response.status_code == 400:
        response_400 = Problem.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = Problem.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = Problem.from_dict(response.json())

        return response_403

    if response.status_code == 405:
        response_405 = Problem.from_dict(response.json())

        return response_405

    if response.status_code == 413:
        response_413 = Problem.from_dict(response.json())

        return response_413

    if response.status_code == 415:
        response_415 = Problem.from_dict(response.json())

        return response_415

    if response.status_code == 422:
        response_422 = Problem.from_dict(response.json())

        return response_422

    if response.status_code == 503:
        response_503 = Problem.from_dict(response.json())

        return response_503

    if client.raise_on_unexpected_status:
        raise errors.UnexpectedStatus(response.status_code, response.content)
    else:
        return None


def _build_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Response[Problem | TaskResponse]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: UpdateRequest,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | TaskResponse]:
    """Add, change and delete tasks in one atomic step.

     Everything is done, or nothing. `error` is null where it was done, and otherwise names every
    culprit:

    - an id in `updates`, `deletes` or `depends` that no task has, in `changes`, `deletes` or `depends`;
    - a task to be changed or deleted that is under the lease of another client, in `owned`;
    - a request that contradicts itself, in `bugs`: the same id in two `updates`, or in `updates` and
    `deletes`.

    An id that stands several times in `deletes` or `depends` counts once. `depends` asks only for
    existence, not
    for ownership. An update without any content does nothing and succeeds.

    `tasks` holds the new tasks: first one for each of `adds`, then one for each of `updates`, in the
    order asked,
    with ids that grow in this order. All get this client as their owner.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (UpdateRequest): Additions, changes, deletions and dependencies that are carried out
            together or not at all.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | TaskResponse]
    """

    kwargs = _get_kwargs(
        body=body,
        idempotency_key=idempotency_key,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient | Client,
    body: UpdateRequest,
    idempotency_key: str | Unset = UNSET,
) -> Problem | TaskResponse | None:
    """Add, change and delete tasks in one atomic step.

     Everything is done, or nothing. `error` is null where it was done, and otherwise names every
    culprit:

    - an id in `updates`, `deletes` or `depends` that no task has, in `changes`, `deletes` or `depends`;
    - a task to be changed or deleted that is under the lease of another client, in `owned`;
    - a request that contradicts itself, in `bugs`: the same id in two `updates`, or in `updates` and
    `deletes`.

    An id that stands several times in `deletes` or `depends` counts once. `depends` asks only for
    existence, not
    for ownership. An update without any content does nothing and succeeds.

    `tasks` holds the new tasks: first one for each of `adds`, then one for each of `updates`, in the
    order asked,
    with ids that grow in this order. All get this client as their owner.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (UpdateRequest): Additions, changes, deletions and dependencies that are carried out
            together or not at all.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | TaskResponse
    """

    return sync_detailed(
        client=client,
        body=body,
        idempotency_key=idempotency_key,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: UpdateRequest,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | TaskResponse]:
    """Add, change and delete tasks in one atomic step.

     Everything is done, or nothing. `error` is null where it was done, and otherwise names every
    culprit:

    - an id in `updates`, `deletes` or `depends` that no task has, in `changes`, `deletes` or `depends`;
    - a task to be changed or deleted that is under the lease of another client, in `owned`;
    - a request that contradicts itself, in `bugs`: the same id in two `updates`, or in `updates` and
    `deletes`.

    An id that stands several times in `deletes` or `depends` counts once. `depends` asks only for
    existence, not
    for ownership. An update without any content does nothing and succeeds.

    `tasks` holds the new tasks: first one for each of `adds`, then one for each of `updates`, in the
    order asked,
    with ids that grow in this order. All get this client as their owner.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (UpdateRequest): Additions, changes, deletions and dependencies that are carried out
            together or not at all.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | TaskResponse]
    """

    kwargs = _get_kwargs(
        body=body,
        idempotency_key=idempotency_key,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient | Client,
    body: UpdateRequest,
    idempotency_key: str | Unset = UNSET,
) -> Problem | TaskResponse | None:
    """Add, change and delete tasks in one atomic step.

     Everything is done, or nothing. `error` is null where it was done, and otherwise names every
    culprit:

    - an id in `updates`, `deletes` or `depends` that no task has, in `changes`, `deletes` or `depends`;
    - a task to be changed or deleted that is under the lease of another client, in `owned`;
    - a request that contradicts itself, in `bugs`: the same id in two `updates`, or in `updates` and
    `deletes`.

    An id that stands several times in `deletes` or `depends` counts once. `depends` asks only for
    existence, not
    for ownership. An update without any content does nothing and succeeds.

    `tasks` holds the new tasks: first one for each of `adds`, then one for each of `updates`, in the
    order asked,
    with ids that grow in this order. All get this client as their owner.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (UpdateRequest): Additions, changes, deletions and dependencies that are carried out
            together or not at all.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | TaskResponse
    """

    return (
        await asyncio_detailed(
            client=client,
            body=body,
            idempotency_key=idempotency_key,
        )
    ).parsed
