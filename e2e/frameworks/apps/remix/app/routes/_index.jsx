import { useLoaderData } from '@remix-run/react'

export const loader = () => ({ pid: process.pid })

export default function Index() {
  return <p>{`worker=${useLoaderData().pid}`}</p>
}
