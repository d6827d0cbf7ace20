"""The steps of the four-step saga, served to Restate's server: python restate_steps.py PORT."""

import asyncio
import sys

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

service = restate.Service("checkout")


async def number(value: int | None) -> dict[str, int | None]:
    return {"number": value}


@service.handler()
async def run(ctx: restate.Context, order: dict[str, object]) -> dict[str, int | None]:
    await ctx.run_typed("reserve", number, value=1)
    await ctx.run_typed("debit", number, value=2)
    shipped = await ctx.run_typed("ship", number, value=3)
    await ctx.run_typed("confirm", number, value=None)
    return shipped


config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
config.loglevel = "ERROR"
asyncio.run(serve(restate.app(services=[service]), config))
