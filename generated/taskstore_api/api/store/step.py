from http import HTTPStatus
from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient, Client
from ...models.problem import Problem
from ...models.step_request import StepRequest
from ...models.step_response import StepResponse
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    body: StepRequest,
    idempotency_key: str | Unset = UNSET,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if not isinstance(idempotency_key, Unset):
        headers["Idempotency-Key"] = idempotency_key

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/step",
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx.Response
) -> Problem | StepResponse | None:
    if response.status_code == 200:
        response_200 = StepResponse.from_dict(response.json())

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
) -> Response[Problem | StepResponse]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: StepRequest,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | StepResponse]:
    """Update, then claim what comes next, in one atomic step.

     The loop of a worker in one request: the update is carried out as in `update`, then the claim as in
    `claim`,
    both in one atomic step. The claim sees what the update has made. Where either is refused, neither
    happens, and
    `error` names the culprits of both.

    With `wait`, the update is made durable at once, and only the claim waits.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (StepRequest): An update, and a claim of what to do next; either may be left out or
            null.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | StepResponse]
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
    body: StepRequest,
    idempotency_key: str | Unset = UNSET,
) -> Problem | StepResponse | None:
    """Update, then claim what comes next, in one atomic step.

     The loop of a worker in one request: the update is carried out as in `update`, then the claim as in
    `claim`,
    both in one atomic step. The claim sees what the update has made. Where either is refused, neither
    happens, and
    `error` names the culprits of both.

    With `wait`, the update is made durable at once, and only the claim waits.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (StepRequest): An update, and a claim of what to do next; either may be left out or
            null.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | StepResponse
    """

    return sync_detailed(
        client=client,
        body=body,
        idempotency_key=idempotency_key,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: StepRequest,
    idempotency_key: str | Unset = UNSET,
) -> Response[Problem | StepResponse]:
    """Update, then claim what comes next, in one atomic step.

     The loop of a worker in one request: the update is carried out as in `update`, then the claim as in
    `claim`,
    both in one atomic step. The claim sees what the update has made. Where either is refused, neither
    happens, and
    `error` names the culprits of both.

    With `wait`, the update is made durable at once, and only the claim waits.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (StepRequest): An update, and a claim of what to do next; either may be left out or
            null.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | StepResponse]
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
    body: StepRequest,
    idempotency_key: str | Unset = UNSET,
) -> Problem | StepResponse | None:
    """Update, then claim what comes next, in one atomic step.

     The loop of a worker in one request: the update is carried out as in `update`, then the claim as in
    `claim`,
    both in one atomic step. The claim sees what the update has made. Where either is refused, neither
    happens, and
    `error` names the culprits of both.

    With `wait`, the update is made durable at once, and only the claim waits.

    Args:
        idempotency_key (str | Unset): A name for one logical call, 16 to 64 letters, digits, `_`
            or `-`, bare or in double quotes.
        body (StepRequest): An update, and a claim of what to do next; either may be left out or
            null.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | StepResponse
    """

    return (
        await asyncio_detailed(
            client=client,
            body=body,
            idempotency_key=idempotency_key,
        )
    ).parsed
